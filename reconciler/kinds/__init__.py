"""The kinds of things on a server, a module each; `reconciler.rounds.order` has their order."""
