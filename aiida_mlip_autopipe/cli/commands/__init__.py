"""The commands of ``mlip-autopipe``, one file each; each is imported when it is called."""
