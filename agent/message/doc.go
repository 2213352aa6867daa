// Package message carries short texts between devices: each reaches each device that it is for exactly once, as the person sees
// it, also when the device is away at first, and when either side is killed. It serves and calls one endpoint over connections
// that it is given ([Peers]) and that prove who is at the other end. It does not dial, does not know names of devices, and
// escapes nothing: what shows a text passes it through package clean.
//
// # Endpoint
//
//	request       body                    answer                              bound
//	POST /v1/msg  {v:1, id, text}         200 {} it is kept, now or before    256 KiB of JSON
//	                                      else {code}, see errors.go
//
// id is 32 hexadecimal digits, made by the sender at random; text is UTF-8 without NUL, 1 to 32768 bytes. Unknown fields are
// ignored. A sender's time is not sent: clocks of devices that boot in 1970 mean nothing to others.
//
// Only a trusted device may send. To any other the answer is 403 {code:"refused"}, and nothing is kept of it.
//
// # Once
//
// A sender has at most one message in flight for each device, in the order in which they were written, and repeats it with the
// same id until it has an answer. A receiver writes message and id to the disk in one step before it answers, and remembers the
// last [maxSeen] ids of each device apart from the messages, so that a message that was dropped from the history does not come
// back.
//
// # Sending
//
//	from      to          when
//	(new)     waiting     written to the outbox, on the disk
//	(new)     failed      the outbox of that device is full ("full")
//	waiting   delivered   the device keeps it
//	waiting   refused     the device does not trust this one ("refused")
//	waiting   failed      it was cancelled, the trust in the device ended ("untrusted"), or the device cannot take it
//	                      ("protocol", "unsupported")
//
// A device that is away is not asked: its outbox waits for [Engine.Wake]. A device that is near and does not answer, or that is
// busy, is asked again after 0.3 to 10 s. Nothing expires by a clock.
//
// # Kept
//
// Messages are kept in the store under a sequence number that grows by one with each message written or received; it, and no
// clock, is their order. When a bound is reached the oldest message that waits for nobody is dropped, first of the device whose
// share is used up. All bounds are in limits.go. A record that cannot be read is set aside in a bucket of its own.
package message
