"""The bundle that is handed on with a potential: written, checked, and taken into a profile.

Nothing is imported here: ``check`` works without AiiDA.
"""
