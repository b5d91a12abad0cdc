"""LEKT: clients join a server, learn who else is there and how to reach them, and see each other come and go."""
