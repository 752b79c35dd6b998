"""What passes between containers, the server and the world: filters, mapped ports, resolvers."""
