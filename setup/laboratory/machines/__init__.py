"""The machines of the lab: containers, virtual machines, how each is made, booted and entered."""
