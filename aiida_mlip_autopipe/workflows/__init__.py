"""The orchestration: restart of single jobs, the stages, and the pipeline that joins them."""
