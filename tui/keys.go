package tui

import (
	"fmt"
	"strings"
)

// action is something a key does.
type action int

const (
	none action = iota
	// everywhere
	actTab
	actNextTab
	actPrevTab
	actUp
	actDown
	actFirst
	actLast
	actPageUp
	actPageDown
	actFilter
	actCopy
	actIncoming
	actRetry
	actBack
	actHelp
	actRedraw
	actSuspend
	actQuit
	// screens
	actSend
	actConnect
	actPair
	actBlock
	actUnblock
	actForget
	actAccess
	actScan
	actOpen
	actCancel
	actPause
	actResume
	actClear
	actFolder
	actDetails
	actCreate
	actLeave
	actPhones
	actOwnCode
	actMessage
	actWrite
	actEarlier
	actLater
	actTakeBack
	actOpenPlace
	actGet
	actOutside
	actFind
	actAdd
	actStop
	actEdit
	actWho
	actCheck
	actFix
	actLevel
	actWrap
	actReport
	// dialogs
	actYes
	actNo
	actElsewhere
	actList
	actAlways
	actChoose
	actInto
	actOut
	actHidden
	actPath
	actDone
	actNext
	actChange
	actStart
	actNewLine
	actAttach
	actReveal
	actNewCode
	actInvert
	actLarge
	actTextOnly
)

// scope is where a key means something.
type scope int

const (
	everywhere scope = iota
	onPeers
	onTransfers
	onMessages
	onShares
	onNetwork
	onLog
	noAgent
	inOffer
	inRequest
	inPair
	inQuestion
	inFix
	inAudience
	inPicker
	inForm
	inSteps
	inPhone
	inOwnCode
	inHelp
	inText
	inMessage
	inWelcome
)

// binding is one line of the key map.
type binding struct {
	act  action
	keys []string // as bubbletea writes them
	show string   // as people write them
	hint string   // on the hint line and in dialogs; "" = only in the help
	help string
}

// section is the keys of one place.
type section struct {
	in       scope
	title    string
	bindings []binding
}

// keymap is the one list of keys. Hints, help and KEYS.md are made from it.
var keymap = []section{
	{onPeers, "Peers", []binding{
		{actSend, []string{"enter"}, "enter", "send", "send files or folders to the device"},
		{actMessage, []string{"m"}, "m", "message", "write a message to the device"},
		{actConnect, []string{"c"}, "c", "connect", "connect over Wi-Fi Direct (form or join a group)"},
		{actPair, []string{"p"}, "p", "pair", "pair with the device: compare a code on both, or type its setup code"},
		{actAccess, []string{"a"}, "a", "access", "what the device may do: send without asking"},
		{actOwnCode, []string{"o"}, "o", "", "show this device's own setup code, for pairing without an answer here"},
		{actBlock, []string{"b"}, "b", "block", "block the device: nothing from it gets through"},
		{actUnblock, []string{"u"}, "u", "unblock", "unblock the device"},
		{actForget, []string{"X"}, "X", "forget", "forget the device: it is new again (asks first)"},
		{actScan, []string{"s"}, "s", "scan", "look for Wi-Fi Direct devices for 30 s"},
	}},
	{onTransfers, "Transfers", []binding{
		{actOpen, []string{"enter"}, "enter", "answer", "answer the offer, when it waits for you"},
		{actCancel, []string{"x"}, "x", "cancel", "cancel the transfer (asks first)"},
		{actPause, []string{"p"}, "p", "pause", "pause the transfer"},
		{actResume, []string{"r"}, "r", "resume", "resume it, or try a failed one again"},
		{actFolder, []string{"o"}, "o", "open folder", "open the folder with it; without a display: show its path, and copy it"},
		{actDetails, []string{"d"}, "d", "details", "all that is known about it"},
		{actClear, []string{"c"}, "c", "clear done", "hide what is over, here only"},
	}},
	{onMessages, "Messages", []binding{
		{actWrite, []string{"enter"}, "enter", "write", "write to the device, or to all near"},
		{actEarlier, []string{"pgup"}, "pgup", "earlier", "what was said before; pgdown: after"},
		{actLater, []string{"pgdown"}, "", "", ""},
		{actTakeBack, []string{"x"}, "x", "take back", "take back what no device has yet (asks first)"},
	}},
	{onShares, "Shares", []binding{
		{actOpenPlace, []string{"enter", "right", "l"}, "enter", "open", "look into the device, share or folder; ask for the file"},
		{actOutside, []string{"backspace", "left", "h"}, "left h", "back", "back to where it was opened from"},
		{actGet, []string{"r"}, "r", "get", "get the file, the folder or the whole share (asks first)"},
		{actFind, []string{"f"}, "f", "search", "search what all connected trusted devices share"},
		{actAdd, []string{"a"}, "a", "share a folder", "share a folder of this device, read-only"},
		{actEdit, []string{"e"}, "e", "edit", "change the name of a share of this device, and whether hidden names are shared"},
		{actWho, []string{"w"}, "w", "who", "choose who may see a share of this device"},
		{actStop, []string{"x"}, "x", "stop sharing", "stop sharing the folder (asks first)"},
	}},
	{onNetwork, "Network", []binding{
		{actCreate, []string{"c"}, "c", "create group", "create a Wi-Fi Direct group that others join"},
		{actLeave, []string{"L"}, "L", "leave group", "leave the group, or end it as its owner (asks first)"},
		{actPhones, []string{"Q"}, "Q", "QR for phones", "show the code that lets a phone join a group of this device"},
		{actScan, []string{"s"}, "s", "scan", "look for Wi-Fi Direct devices for 30 s"},
	}},
	{onLog, "Log", []binding{
		{actCheck, []string{"d"}, "d", "run checks", "run the checks of nigh doctor"},
		{actFix, []string{"f"}, "f", "fix", "make the change that nigh doctor --fix has for the check (shows it first)"},
		{actLevel, []string{"l"}, "l", "level", "show the log from another level on"},
		{actWrap, []string{"w"}, "w", "wrap", "show long lines whole, or one line of each"},
		{actReport, []string{"b"}, "b", "bug report", "write what helps to mend nigh into a file, without names and addresses"},
	}},
	{everywhere, "Everywhere", []binding{
		{actTab, nil, "1-6", "", "go to the screen with that number"},
		{actNextTab, []string{"tab"}, "tab", "", "next screen; shift+tab: previous"},
		{actPrevTab, []string{"shift+tab"}, "", "", ""},
		{actUp, []string{"up", "k"}, "up k", "", "up"},
		{actDown, []string{"down", "j"}, "down j", "", "down"},
		{actFirst, []string{"home", "g"}, "home g", "", "first"},
		{actLast, []string{"end", "G"}, "end G", "", "last"},
		{actPageUp, []string{"pgup"}, "pgup", "", "one page up; pgdown: one page down"},
		{actPageDown, []string{"pgdown"}, "", "", ""},
		{actFilter, []string{"/"}, "/", "filter", "filter the list; esc clears it"},
		{actCopy, []string{"y"}, "y", "", "copy the ID, address, path or line that is shown, by the terminal's clipboard"},
		{actIncoming, []string{"i"}, "i", "incoming", "open what waits for your answer"},
		{actBack, []string{"esc"}, "esc", "", "close, clear the filter or the message; never quits"},
		{actRedraw, []string{"ctrl+l"}, "ctrl+l", "", "redraw"},
		{actSuspend, []string{"ctrl+z"}, "ctrl+z", "", "suspend (fg comes back)"},
		{actHelp, []string{"?"}, "?", "help", "this help"},
		{actQuit, []string{"q"}, "q", "quit", "quit; ctrl+c quits from anywhere"},
	}},
	{noAgent, "While no agent answers", []binding{
		{actRetry, []string{"r"}, "r", "retry now", "try to reach the agent now; it is tried again by itself too"},
	}},
	{inOffer, "Incoming files", []binding{
		{actYes, []string{"y"}, "y", "accept", "accept"},
		{actNo, []string{"n"}, "n", "refuse", "refuse"},
		{actElsewhere, []string{"s"}, "s", "save elsewhere", "accept into another folder"},
		{actList, []string{"l"}, "l", "look at list", "look at all names"},
		{actAlways, []string{"a"}, "a", "always accept from this device", "from now on accept without asking (trusted devices; asks once more)"},
		{actBack, []string{"esc"}, "esc", "later", "leave it waiting; enter does nothing"},
	}},
	{inRequest, "Incoming Wi-Fi Direct request", []binding{
		{actYes, []string{"y"}, "y", "connect", "connect"},
		{actNo, []string{"n"}, "n", "refuse", "refuse"},
		{actBack, []string{"esc"}, "esc", "later", "leave it waiting; enter does nothing"},
	}},
	{inPair, "Comparing codes to pair", []binding{
		{actYes, []string{"y"}, "y", "codes match", "the codes are the same: pair"},
		{actNo, []string{"n", "esc", "enter"}, "n", "do not pair", "do not pair; enter and esc mean no too"},
		{actBlock, []string{"b"}, "b", "block device", "do not pair, and block the device (asks once more)"},
	}},
	{inQuestion, "Questions", []binding{
		{actYes, []string{"y"}, "y", "yes", "yes"},
		{actNo, []string{"n", "esc", "enter"}, "n", "no", "no; enter and esc mean no too"},
	}},
	{inFix, "A change of the system", []binding{
		{actYes, []string{"y"}, "y", "make the change", "make the change; where only root may, copy the command"},
		{actDown, []string{"down", "j", " "}, "j/k", "scroll", "scroll"},
		{actUp, []string{"up", "k"}, "", "", ""},
		{actNo, []string{"n", "esc", "enter"}, "n", "leave it", "change nothing; enter and esc mean no too"},
	}},
	{inAudience, "Who may see a share", []binding{
		{actChoose, []string{" "}, "space", "choose", "choose the device, or take it back"},
		{actStart, []string{"enter"}, "enter", "ok", "take those that are chosen, and no others"},
		{actDown, []string{"down", "j"}, "j/k", "", "down, up"},
		{actUp, []string{"up", "k"}, "", "", ""},
		{actBack, []string{"esc"}, "esc", "cancel", "cancel"},
	}},
	{inPicker, "Choosing files", []binding{
		{actChoose, []string{" "}, "space", "choose", "choose, or take back"},
		{actStart, []string{"enter"}, "enter", "open/send", "open the folder, or send what is chosen"},
		{actDone, []string{"s"}, "s", "send", "send what is chosen"},
		{actInto, []string{"right", "l"}, "right l", "", "open the folder"},
		{actOut, []string{"left", "h", "backspace"}, "left h", "", "go to the folder above"},
		{actFilter, []string{"/"}, "/", "filter", "filter by name"},
		{actHidden, []string{"."}, ".", "hidden", "show or hide hidden names"},
		{actPath, []string{"e", "~"}, "e", "type path", "type a path; tab completes it"},
		{actBack, []string{"esc"}, "esc", "close", "clear the filter, or close"},
	}},
	{inForm, "Forms", []binding{
		{actStart, []string{"enter"}, "enter", "start", "do it"},
		{actNext, []string{"down", "j", "tab"}, "tab", "next", "next line; up: previous"},
		{actUp, []string{"up", "k", "shift+tab"}, "", "", ""},
		{actChange, []string{" ", "right", "l", "left", "h"}, "space", "change", "change the value"},
		{actBack, []string{"esc"}, "esc", "cancel", "cancel"},
	}},
	{inSteps, "While it connects", []binding{
		{actBack, []string{"esc"}, "esc", "cancel", "give up and put everything back"},
	}},
	{inPhone, "The code for phones", []binding{
		{actReveal, []string{"v"}, "v", "passphrase", "show or hide the passphrase"},
		{actLarge, []string{"+", "="}, "+", "size", "draw it in whole cells, or in half ones again"},
		{actTextOnly, []string{"t"}, "t", "text only", "without the code, or with it again"},
		{actInvert, []string{"w"}, "w", "swap dark and light", "swap dark and light, where there are no colours"},
		{actBack, []string{"esc", "q", "enter"}, "esc", "close", "close"},
	}},
	{inOwnCode, "The setup code of this device", []binding{
		{actNewCode, []string{"n"}, "n", "new code", "make a new code; the old one is worth nothing any more (asks first)"},
		{actBack, []string{"esc", "q", "enter"}, "esc", "close", "close"},
	}},
	{inHelp, "Help and lists", []binding{
		{actDown, []string{"down", "j", " "}, "j/k", "scroll", "scroll"},
		{actUp, []string{"up", "k"}, "", "", ""},
		{actPageDown, []string{"pgdown"}, "", "", ""},
		{actPageUp, []string{"pgup"}, "", "", ""},
		{actFirst, []string{"home", "g"}, "", "", ""},
		{actLast, []string{"end", "G"}, "", "", ""},
		{actBack, []string{"esc", "q", "?", "enter"}, "esc", "close", "close"},
	}},
	{inText, "Text fields", []binding{
		{actStart, []string{"enter"}, "enter", "ok", "take it"},
		{actNext, []string{"tab"}, "tab", "complete", "complete a path"},
		{actBack, []string{"esc"}, "esc", "back", "back, without it"},
	}},
	{inWelcome, "The first run", []binding{
		{actStart, []string{"enter"}, "enter", "ok", "take the name and the folder"},
		{actNext, []string{"down", "tab"}, "tab", "next line", "next line; up: previous"},
		{actUp, []string{"up", "shift+tab"}, "", "", ""},
		{actBack, []string{"esc"}, "esc", "keep both as they were", "keep both as they were; it is not asked again"},
	}},
	{inMessage, "Writing a message", []binding{
		{actStart, []string{"enter"}, "enter", "send", "send it"},
		{actNewLine, []string{"ctrl+j"}, "ctrl+j", "new line", "begin a new line"},
		{actAttach, []string{"ctrl+f"}, "ctrl+f", "send files", "choose files or folders to send to the device"},
		{actEarlier, []string{"pgup"}, "pgup", "earlier", "what was said before; pgdown: after"},
		{actLater, []string{"pgdown"}, "", "", ""},
		{actNext, []string{"tab"}, "tab", "", "back to the devices; what was written stays"},
		{actBack, []string{"esc"}, "esc", "back", "back to the devices; what was written stays"},
	}},
}

// sectionOf returns the keys of a scope.
func sectionOf(in scope) section {
	for _, s := range keymap {
		if s.in == in {
			return s
		}
	}
	return section{}
}

// find returns what key does in the first of the scopes that knows it.
func find(key string, scopes ...scope) action {
	for _, in := range scopes {
		for _, b := range sectionOf(in).bindings {
			for _, k := range b.keys {
				if k == key {
					return b.act
				}
			}
		}
	}
	return none
}

// hintsOf returns "key word" pairs of a scope, without those that skip says.
func hintsOf(in scope, skip func(action) bool) []string {
	var hints []string
	for _, b := range sectionOf(in).bindings {
		if b.hint != "" && (skip == nil || !skip(b.act)) {
			hints = append(hints, b.show+" "+b.hint)
		}
	}
	return hints
}

// hintLine joins as many hints as fit in w columns; the last keep ones of them
// are always among them.
func hintLine(hints []string, keep, w int) string {
	const gap = "  "
	keep = min(keep, len(hints))
	tail := strings.Join(hints[len(hints)-keep:], gap)
	line := ""
	for _, h := range hints[:len(hints)-keep] {
		if width(line)+width(h)+width(gap)+width(tail) > w-2 {
			break
		}
		line += h + gap
	}
	return " " + line + tail
}

// KeyTable returns all keys as Markdown: one table for each place.
func KeyTable() string {
	var b strings.Builder
	for _, s := range keymap {
		fmt.Fprintf(&b, "### %s\n\n| key | does |\n| --- | --- |\n", s.title)
		for _, k := range s.bindings {
			if k.help != "" {
				fmt.Fprintf(&b, "| `%s` | %s |\n", k.show, k.help)
			}
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
