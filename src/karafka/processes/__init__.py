"""One server, several processes: `Supervisor` starts and watches them, `Swarm` decides, a `Link` ties each to it."""
