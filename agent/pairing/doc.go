// Package pairing makes two devices trust each other: their users compare a code, or
// one of them types the setup code of the other, headless one. It runs on the
// authenticated connections of package session, keeps the setup code and its lock in
// the database, and writes the outcome into the trust book. It shows nothing and asks
// nobody: the agent takes its questions to the faces.
//
// # Compared code
//
// Everything is bound to the binding X of one connection (the TLS exporter) and to
// both DeviceIDs; who asks and who is asked are told apart everywhere. n and m are 32
// random bytes.
//
//	asker                                          asked
//	POST /v1/pair/commit   SHA-256(n, ids, X) ->
//	                                            <- m
//	POST /v1/pair/reveal   n                  ->   checks it against the commitment
//	      both show six digits of HMAC(n, m; ids, X)
//	POST /v1/pair/confirm  MAC, once its user
//	                       said yes           ->
//	                                            <- MAC, once its user said yes too
//
// Whoever is in the middle has two bindings and needs the same six digits on both. He
// has to choose his nonce before he sees the other's, so he has one chance in a
// million with each try, and no work helps him. A try that he lets go before anybody is
// asked, because it would show the wrong code, costs him the time for which the right
// one is shown: no stranger is heard meanwhile. The asked side says whether its user said yes only to an asker that has said so itself.
//
// A no of the asker's user can cross the MAC of the asked side, which then trusts it
// already. The asker therefore says with every failure that it trusts nobody (undo),
// and the asked side takes back what that pairing has made.
//
// When the connection breaks just as the asked side has said yes as the second, that
// side trusts the asker alone: both users had said yes, and pairing again sets it right.
//
// A device is asked one question at a time by others, and asks one itself. When both
// users begin at once, the pairing that the device with the smaller DeviceID began
// goes on, for both.
//
// # Setup code
//
// The asker proves that it knows the code, and only then the device whose code it is
// does:
//
//	POST /v1/pair/code     HMAC(code; ids, X) ->   counted when it is wrong
//	                                            <- HMAC(code; ids, X), the other way
//
// A device that is asked tells nothing that helps to guess; one that asks gives its
// proof to the device that its user named. A code has 80 bits, which no amount of work
// finds. Wrong tries are counted on the disk before they are answered, whoever makes
// them: three lock the code, for longer with each further one. A code that the owner has
// just made is not locked for ten minutes, so that whoever guesses all the time cannot
// keep the owner from using it.
//
// # Bounds
//
// All are in limits.go. None of them stops what the user of this device begins.
package pairing
