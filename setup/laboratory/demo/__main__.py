"""`python -m laboratory.demo`: what setup/demo starts."""

from laboratory.demo.play import main

main(prog_name="setup/demo")
