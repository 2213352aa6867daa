// Package store keeps the agent's state: one bbolt database with buckets of JSON
// values, in a private folder that one agent at a time may use.
//
// The folder holds a lock file with the PID of the agent that uses it, the
// database nigh.db, and what was set aside: a database that cannot be read whole
// is renamed to nigh.db.damaged-N and a new one is begun, so that a damaged disk
// costs settings and history but never the start. The device key is not in the
// database and survives.
//
// Every change is on the disk when the call returns. All methods may be called
// by several goroutines at once.
package store
