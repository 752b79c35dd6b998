"""What a server does for everybody: fetch the newest revision, judge it, apply it, see drift."""
