"""One file per attack. An attack sees a `View` and a `Threat`; it knows no network, ticket or store."""
