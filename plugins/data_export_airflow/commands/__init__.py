"""The commands of `python -m data_export_airflow`, one module each.

A module has `add(commands)`, which says how the command is called, and `run(options)`, which does it and returns the
exit code. Both import late what they need: `validate` is to be fast, and works where Airflow is not installed.
"""
