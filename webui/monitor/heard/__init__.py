"""What servers say of themselves: listened to, checked, the newest of each kept."""
