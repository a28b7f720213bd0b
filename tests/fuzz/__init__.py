"""Damaged and hostile files of every format against inspection and rendering: `make fuzz`.

`seeds` are small good pictures, `mutations` change them along their `structure`, `examination` says
what is wrong with what a file does, `worker` tries files in a process that may die of them, and the
program in `__main__` starts workers, reports, and saves the files that were found.
"""
