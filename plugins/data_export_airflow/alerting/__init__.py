"""How people hear of what went wrong: callbacks, mails, notifiers, the look for late windows."""
