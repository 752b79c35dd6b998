"""The kinds of things on a server, one module each; `reconciler.rounds.order` has their order."""
