"""Traffic between containers, the server and the world: filters, forwards, resolvers."""
