// Package cli is nigh's command line: it turns arguments into calls of the local
// API and prints what comes back.
//
// Data goes to standard output, everything said to people to standard error. With
// --json, a command that answers once prints one JSON document, a command that
// follows something prints one JSON object a line, both with the field names of
// package control; the last line of a failed command is
//
//	{"type":"error","code":"refused","message":"...","hint":"..."}
//
// Exit codes: 0 done, 1 failed, 2 usage, 3 refused by the other side, 4 device not
// found or away, 5 timed out, 6 agent not running, 7 not allowed, 8 some failed,
// 130 interrupted. Both are additive: an unknown code means failed.
//
// The package decides nothing and knows no part of the agent but its local API;
// running an agent, the terminal UI and the checks that need no agent come in
// through [Env], which main.go fills.
package cli
