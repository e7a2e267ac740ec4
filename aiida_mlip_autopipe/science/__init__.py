"""Numbers in, numbers out: the science of the pipeline, usable alone, without AiiDA."""
