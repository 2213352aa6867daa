// Package control is the local API between an agent and its faces: the command
// line and the terminal UI, or anything that can speak HTTP over a Unix socket.
//
// It is HTTP/1.1 and JSON on one socket ([SocketPath]), usable with
// `curl --unix-socket`. The folder of the socket is 0700 and every connection's
// peer credentials (SO_PEERCRED) must be those of the agent's user or of root.
// A request with an Origin header or a foreign Host is refused, so that no web
// page can reach it. Field names are additive only: a face ignores what it does
// not know.
//
// The package holds the types, the [Server] that an agent gives its [Backend]
// to, and the [Client] of the faces. It imports only the standard library and
// decides nothing: policy is the agent's.
//
// # Routes
//
//	GET    /v1/status                 Status
//	GET    /v1/peers                  {"peers": [Peer]}
//	GET    /v1/inbox                  {"items": [InboxItem]}
//	POST   /v1/inbox/{id}/accept      AcceptRequest -> {}
//	POST   /v1/inbox/{id}/refuse      {} -> {}
//	GET    /v1/transfers              {"transfers": [Transfer]}
//	POST   /v1/transfers              SendRequest -> {"transfers": [Transfer]}
//	POST   /v1/transfers/{id}/cancel  {} -> {}
//	POST   /v1/transfers/{id}/pause   {} -> {}
//	POST   /v1/transfers/{id}/resume  {} -> {}
//	GET    /v1/messages               MessagePage; ?since=SEQ&before=SEQ&oldest=true&limit=N&search=TEXT&from=DEVICE&waiting=true
//	POST   /v1/messages               MessageRequest -> Message
//	POST   /v1/messages/read          ReadRequest -> Unread
//	POST   /v1/messages/{id}/cancel   {} -> {}
//	GET    /v1/trust                  {"devices": [Trusted]}
//	POST   /v1/trust                  TrustRequest -> Trusted
//	POST   /v1/find                   FindRequest -> {}
//	GET    /v1/groups                 {"groups": [Group]}
//	POST   /v1/groups                 GroupRequest -> Group (blocks until the group is up or failed)
//	DELETE /v1/groups/{ifname}        {} (leave or end)
//	GET    /v1/events                 one Event a line: the full State first, then changes
//	POST   /v1/search                 SearchRequest -> SearchAnswer
//	POST   /v1/search/stream          SearchRequest -> one SearchAnswer a line, as devices answer; the last has "end"
//	GET    /v1/doctor                 {"checks": [Check]}
//	GET    /v1/trust/export           TrustDocument
//	POST   /v1/trust/import           TrustDocument -> TrustImport
//	GET    /v1/config                 Configuration
//	POST   /v1/config                 SettingsRequest -> Configuration
//	POST   /v1/config/reload          {} -> Configuration
//
// An error is the body [Error] with the status that [Error.Status] names.
package control
