"""The kinds of things on a server, one module each; `reconciler.order` puts them in their order."""
