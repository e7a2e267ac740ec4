"""CalcJobs that send the worker out, and calcfunctions that do the same science in the process at hand."""
