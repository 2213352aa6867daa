// Package trust is the book of devices that the user decided about: which keys
// are trusted, which are blocked, and what a trusted one may do. It is kept in
// the agent's database.
//
// Only the user grants trust, by naming a key ([Book.Add]) or by pairing; no
// name, address or announcement ever does. A device that is not in the book is
// new. A change is on the disk before it counts, and subscribers hear of it
// before the call that made it returns, so that the sessions of a device whose
// trust ended are closed at once.
package trust
