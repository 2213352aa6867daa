package main

import "nigh/agent/control"

var scenes = []scene{
	{name: "peers-empty", state: nothing},
	{name: "peers", state: state},
	{name: "transfers", state: state, keys: []string{"2"}},
	{name: "accept", state: offered},
	{name: "request", state: func() control.State {
		s := state()
		s.Inbox = []control.InboxItem{{ID: "2", Kind: "group", PeerName: "Pixel 8", Trust: "new", Expires: -1, Method: "show_pin", PIN: "12345670", Address: "9e:0b:44:10:2f:01"}}
		return s
	}},
	{name: "first-run", state: fresh, first: true},
	{name: "first-run-folder", state: fresh, first: true, keys: []string{"Tab"}},
	{name: "service", state: fresh, first: true, keys: []string{"Return"}},
	{name: "no-agent", state: nothing, alone: true},
	{name: "agent-gone", state: state, keys: []string{"s"}},
	{name: "pair", state: pairing},
	{name: "paired", state: pairing, keys: []string{"y"}},
	{name: "messages", state: state, keys: []string{"m"}},
	{name: "shares", state: state, keys: []string{"4", "j"}},
	{name: "search", state: state, keys: []string{"4", "f", "h", "o", "l", "Return"}},
	{name: "log", state: state, keys: []string{"6"}},
	{name: "network", state: grouped, keys: []string{"5"}},
	{name: "phone", state: grouped, keys: []string{"5", "Q"}},
	{name: "create", state: state, keys: []string{"5", "c"}},
	{name: "help", state: state, keys: []string{"question"}},
	{name: "transfers-empty", state: nothing, keys: []string{"2"}},
	{name: "messages-empty", state: nothing, keys: []string{"3"}},
	{name: "filter", state: state, keys: []string{"slash", "p", "i"}},
	{name: "picker", state: state, keys: []string{"Return", "j", "space"}},
	{name: "picker-path", state: state, keys: []string{"Return", "e"}},
	{name: "pair-form", state: state, keys: []string{"slash", "p", "i", "x", "Return", "p"}},
	{name: "connect", state: state, keys: []string{"slash", "p", "i", "x", "Return", "c"}},
	{name: "own-code", state: state, keys: []string{"o"}},
	{name: "send-new", state: state, keys: []string{"slash", "p", "i", "x", "Return", "Return"}},
	{name: "send-later", state: state, keys: []string{"G", "Return"}},
	{name: "block", state: state, keys: []string{"b"}},
	{name: "forget", state: state, keys: []string{"X"}},
	{name: "cancel", state: state, keys: []string{"2", "x"}},
	{name: "accept-elsewhere", state: offered, keys: []string{"s"}},
	{name: "accept-list", state: offered, keys: []string{"l"}},
	{name: "accept-always", state: offered, keys: []string{"a"}},
	{name: "share-add", state: state, keys: []string{"4", "a"}},
	{name: "share-for", state: state, keys: []string{"4", "a", "Return"}},
	{name: "share-stop", state: state, keys: []string{"4", "x"}},
	{name: "share-search", state: state, keys: []string{"4", "f"}},
	{name: "share-get", state: state, keys: []string{"4", "f", "h", "Return", "r"}},
	{name: "leave", state: grouped, keys: []string{"5", "L"}},
	{name: "access", state: state, keys: []string{"a"}},
	{name: "details", state: state, keys: []string{"2", "d"}},
	{name: "share-who", state: state, keys: []string{"4", "w"}},
	{name: "share-edit", state: state, keys: []string{"4", "e"}},
	{name: "phone-large", state: grouped, keys: []string{"5", "Q", "plus"}},
	{name: "phone-text", state: grouped, keys: []string{"5", "Q", "t"}},
	{name: "fix", state: state, keys: []string{"6", "f"}},
	{name: "wrapped", state: state, keys: []string{"6", "w"}},
	{name: "report", state: state, keys: []string{"6", "b"}},
	{name: "plain", state: state, plain: true},
	{name: "plain-question", state: offered, plain: true},
}

// nothing is the state of a device that has met no other one.
func nothing() control.State { return control.State{Status: status(true)} }

// fresh is the state of a device at its first run.
func fresh() control.State {
	s := nothing()
	s.Status.FirstRun = true
	s.Status.Radio = control.Radio{State: "disabled"}
	return s
}

func pairing() control.State {
	s := state()
	s.Inbox = []control.InboxItem{{ID: "pair-1", Kind: "pair", Peer: id("pixel"), PeerName: "Pixel 8", Trust: "new", Expires: 48, Code: "482913"}}
	return s
}

func offered() control.State {
	s := state()
	s.Inbox = []control.InboxItem{{ID: "1", Kind: "transfer", Peer: id("ana"), PeerName: "Ana's laptop", Trust: "trusted", Expires: -1,
		Transfer: &control.Transfer{ID: "c1", Direction: "receive", Peer: id("ana"), PeerName: "Ana's laptop", Name: "3 files", Files: 3,
			BytesTotal: 4_389_000_000, State: "waiting", Names: []string{"holiday-4k.mov", "holiday-4k.srt", "cover.jpg"}}}}
	return s
}

func grouped() control.State {
	s := state()
	s.Status.Groups = owned("")
	return s
}
