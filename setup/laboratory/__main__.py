"""`python -m laboratory`: what setup/lab starts."""

from laboratory.main import main

main(prog_name="setup/lab")
