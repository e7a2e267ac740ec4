"""Questions to the provenance graph: what was explored, what is labelled, what failed, where something comes from.

There is no record of the state of a run beside the graph. A question about it is asked here, and nowhere else.
"""
