"""The steps of a run: `prepare`, then per site `extract`, `transform`, `copy_images`, `deliver`, then `close`.

The DAG and the command line call the same functions with clients of their own making. Every step may be repeated: it
writes under names of its own run and attempt, or recognises what is there.
"""
