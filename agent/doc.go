// Package agent is the one long-running part of nigh: it owns the peer table,
// the policy and the life of Wi-Fi Direct groups, and wires everything that
// lies left of the control API in the design's picture.
//
// Data flows one way. Package wpa and package discovery report sightings;
// the table ([Agent] keeps it in peers.go) proves each by a session before it
// becomes a peer with an identity; sessions carry transfers; package control
// shows it all to the faces. Nothing an announcement says is believed: a name
// or an identity in a TXT record or in a Wi-Fi Direct probe response is a hint
// about whom to dial, and only the key that the session proves counts.
//
// The package does not speak D-Bus, netlink, mDNS or TLS itself, and does not
// know what a terminal is.
//
// # Log keys
//
// Messages are static; values are in these keys: addr (host and port), address (as
// typed), id (a short device ID), err, freq (MHz), group (interface name of a group), ifname,
// inbox, kind, locked_for, message (its ID), mode, name (escaped), path (direct,
// lan or manual), peer (short device ID), pid, port, reason, rtt, share (its ID),
// state, step, transfer, after (since the command), version, wrong (setup codes in a
// row).
// Passphrases, PINs, setup codes, keys and message texts are never logged, file names
// only at debug level.
package agent
