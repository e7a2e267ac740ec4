"""What a run looks like from outside: the report to look at, the model card, the bundle to hand on."""
