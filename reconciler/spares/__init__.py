"""Systems that are unpacked already, of each template in use, for whoever comes next."""
