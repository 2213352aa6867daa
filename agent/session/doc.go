// Package session makes connections to devices: TLS 1.3 over TCP in which both
// sides prove their key, and HTTP/1.1 on it. It finds a way to a peer, keeps it,
// says when it is lost, and serves the requests of peers with their identity. It
// does not decide whom to trust (package trust) or what a peer may ask for (the
// agent, by [Peer].Standing in the handler it gives).
//
// # The connection
//
// Each side sends exactly one certificate with an Ed25519 key; its dates and
// names are never read. The device ID is computed from the key, in
// VerifyConnection, which a resumed session could not skip (and there are no
// tickets to resume). A dialer that wants a certain device refuses every other.
// There is no server name, and nothing that names a device or user is sent in
// the clear.
//
// ALPN says who asks. With nigh/1 the side that dialled is the HTTP client. With
// nigh/1r the side that dialled serves: it opened the connection for the other
// side to ask on, because that one cannot dial it (a firewall). So either side
// of a firewall can be client and server:
//
//   - a side that holds a control connection to a peer, and sees none coming from
//     it, opens a nigh/1r connection beside it, which the peer takes as its own
//     control connection;
//   - over that one the peer asks with POST /v1/dialback for more, for data.
//
// There is one control connection each way and up to two bulk connections, so
// that a message never waits behind a film. (A second control connection is
// opened only while a request on the first has not been answered.)
//
//	GET  /v1/hello     {"version","name","id"}; proof of life and round-trip time
//	POST /v1/dialback  the peer opens one nigh/1r connection; 204 when it is open
//	POST /v1/inbound   {"port"}: the peer dials that port where we come from, and
//	                   answers {"outcome"}: open, refused, rejected or silent
//
// All other requests go to Config.Handler.
//
// # Losing and finding
//
// A closed socket is noticed at once, a silent peer within 10 s by the kernel
// (keep-alive and TCP_USER_TIMEOUT). A held peer is dialled again after 0.3 to
// 10 s, at once after [Sessions.Kick], and at once when it connects to us.
// Candidates are raced in their order with a head start of 250 ms (as RFC 8305).
//
// When a candidate of lower cost appears, the control connection moves to it, and
// bulk connections follow: requests that run end where they began. Where data
// should come and does not for 0.5 s, or the peer comes to us over another link,
// the path is doubted: a hello is sent on it, and the other candidates are
// dialled. When one of those answers and the path has not within 0.75 s, all its
// connections are closed and everything moves.
//
// # Bounds
//
// All are in limits.go, and with those of all other packages in LIMITS.md. Strangers
// have a budget of their own (gate.go), so that they cannot use up what trusted devices
// need.
package session
