package policy

import (
	"fmt"
	"path/filepath"
	"strings"
)

// HookEvents are what commands can be run on, in the order of [Hooks.Commands].
var HookEvents = []string{"received", "offer", "message", "paired", "peer"}

// Bounds of one command.
const (
	maxHookWords = 64
	maxHookBytes = 2048
)

// Hooks are commands that are run on events: each a program by its absolute path, and its arguments.
type Hooks struct {
	OnReceived []string `toml:"on_received"` // files have arrived
	OnOffer    []string `toml:"on_offer"`    // files are offered, and wait for an answer
	OnMessage  []string `toml:"on_message"`  // a message came
	OnPaired   []string `toml:"on_paired"`   // a device is trusted now
	OnPeer     []string `toml:"on_peer"`     // a trusted device is near, or away
}

// Commands returns the commands in the order of [HookEvents]; an empty one is none.
func (h *Hooks) Commands() [][]string {
	return [][]string{h.OnReceived, h.OnOffer, h.OnMessage, h.OnPaired, h.OnPeer}
}

// String returns all commands; two hooks are the same when theirs are.
func (h Hooks) String() string { return fmt.Sprintf("%q", h.Commands()) }

// Check returns the first key whose command cannot be, and what is wrong with it.
func (h *Hooks) Check() (key, what string) {
	for i, c := range h.Commands() {
		key := "hooks.on_" + HookEvents[i]
		switch {
		case len(c) == 0:
		case !filepath.IsAbs(c[0]):
			return key, fmt.Sprintf("must begin with the absolute path of a program, not %q", c[0])
		case len(c) > maxHookWords || len(strings.Join(c, " ")) > maxHookBytes:
			return key, fmt.Sprintf("has more than %d words or %d bytes", maxHookWords, maxHookBytes)
		case strings.Contains(strings.Join(c, ""), "\x00"):
			return key, "has a NUL"
		}
	}
	return "", ""
}
