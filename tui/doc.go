// Package tui is the terminal UI of nigh: the devices near, what is sent and
// received, the Wi-Fi Direct groups, and the questions that wait for a person.
//
// It decides nothing and knows no other part of the program: everything it shows
// comes from the event stream of the local API ([Control.Watch]), and everything
// it does is one call to it. So it can be ended and started at any time, and two
// of them may run at once.
//
// Inside there is one [tea.Model], the app. Screens (peers, transfers, network)
// and dialogs are plain structs with methods that return lines of text or a
// command; calls to the agent and reads of folders happen only in commands. The
// key map in keys.go is the one list of keys: hints, help and KEYS.md are made
// from it.
//
// Text from outside (names, paths, errors) was escaped by the agent. It passes
// once more through a filter here (scrub), so that no byte of another device
// reaches the terminal raw, whatever agent answers.
package tui

import (
	_ "github.com/charmbracelet/bubbletea" // for the link above

	"nigh/tui/noquery"
)

func init() { noquery.Restore() }
