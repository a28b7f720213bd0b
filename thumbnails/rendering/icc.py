"""What the header of an ICC colour profile says (ICC.1:2022, 7.2 and 7.3)."""

HEADER_BYTES, TAG_BYTES = 128, 12


def fault_of_cmyk_profile(content: bytes) -> str:
    """Returns why it is not a profile that converts CMYK to colours, such as a press's; empty if
    it is one."""
    if len(content) < HEADER_BYTES + 4 or content[36:40] != b"acsp":
        return "is not an ICC profile"
    space = content[16:20].decode("ascii", "replace").strip()
    if space != "CMYK":
        return f"is an ICC profile of {space}, not of CMYK"
    if len(content) < int.from_bytes(content[:4], "big"):
        return "is the beginning of an ICC profile"
    number = int.from_bytes(content[HEADER_BYTES : HEADER_BYTES + 4], "big")
    places = range(HEADER_BYTES + 4, len(content), TAG_BYTES)[:number]
    if b"A2B0" not in {content[place : place + 4] for place in places}:
        return "is an ICC profile without a table from CMYK to colours (A2B0)"
    return ""
