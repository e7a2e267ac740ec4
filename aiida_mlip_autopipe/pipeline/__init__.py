"""The words of the pipeline, each defined once: its stages, their order, its exit codes, the records of its jobs.

Nothing here knows AiiDA: the plan counts the same stages that ``AutoPipeWorkChain`` runs.
"""
