// Package hostile is a device that speaks nigh's protocol for real (TCP, mutual TLS, the
// application protocols, HTTP/1.1, offers and what follows them) and breaks it in
// every state. Tests aim it at running agents; so can anybody, by lab/cmd/hostile.
//
// An [Attack] first shows that it reached the agent, by what the agent answered or
// asked; then it says what is wrong when the agent did not refuse. Whether the agent
// stands afterwards (still serves those it trusts, within its memory and descriptors,
// with nothing on its disk) is for the caller to look at.
//
// Nothing here uses the packages that it attacks, but for the hashes and IDs that are
// part of the protocol.
package hostile
