"""Makes the release archive: what a sysadmin downloads to set machines up, without internet too."""
