"""The servers, as the page knows them: nudged over ssh, and what each last said."""
