// Package recognise lets devices that trust each other know each other in the air
// before they connect, and gives them the secret of the connection, while nobody
// else can tell that it is the same device as yesterday.
//
// A device sends an [Advert] to everybody: a nonce, and for each device that it
// trusts a short tag, which only that one can recompute because it is keyed with
// the secret of the pair ([identity.Identity.Shared]). An advert can be recorded
// and sent again by anybody, so it is only a hint about whom to try. What proves
// is the WPS PIN of the group that is formed then, which both derive from the
// secret of the pair and from nonces that are new for each attempt, and after it
// the session.
//
// The package does no I/O. It is called by package agent, which gives the adverts
// to the radio (WPS vendor extension, Wi-Fi Simple Configuration 2.0.8 section 12)
// and to discovery.
package recognise
