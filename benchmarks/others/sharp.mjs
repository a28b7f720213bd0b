// sharp, in a process of its own. Each line of its input is JSON: a picture, the side of the square
// that it fits inside, and a quality.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(`${process.argv[2]}/`);
const sharp = require("sharp");

sharp.cache(false);
sharp.concurrency(1);

const say = (answer) => console.log(JSON.stringify(answer));

async function measured(path, side, quality) {
  const started = process.cpuUsage();
  const { data, info } = await sharp(path)
    .autoOrient()
    .resize(side, side, { fit: "inside", withoutEnlargement: true })
    .flatten({ background: "white" })
    .jpeg({ quality, optimiseCoding: true })
    .toBuffer({ resolveWithObject: true });
  const used = process.cpuUsage(started);
  return {
    ms: (used.user + used.system) / 1000,
    size: [info.width, info.height],
    bytes: data.length,
  };
}

say({ version: `${sharp.versions.sharp}, libvips ${sharp.versions.vips}` });
for await (const line of createInterface({ input: process.stdin })) {
  const [path, side, quality] = JSON.parse(line);
  say(await measured(path, side, quality).catch((error) => ({ error: error.message })));
}
