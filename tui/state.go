package tui

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"nigh/agent/control"
)

// state is what the agent said last. It belongs to the app's goroutine.
type state struct {
	known     bool // a snapshot came once
	status    control.Status
	statusAt  time.Time
	peers     []*peer     // sorted for the screen
	transfers []*transfer // sorted for the screen
	inbox     []*question // oldest first
	steps     []control.Step
	messages  []control.Message // in the order of their numbers; older ones are asked for
	unread    control.Unread
	log       []control.LogLine // the last lines, oldest first
	logless   bool              // the agent does not tell its log: it is older than this program

	seq   uint64 // of the last event
	order int    // grows with every transfer seen
}

// peer is a device with the moment its values are from.
type peer struct {
	control.Peer
	at time.Time
}

// age is the number of seconds since the peer was heard, -1 for never.
func (p *peer) age(now time.Time) float64 {
	if p.Age < 0 {
		return -1
	}
	return p.Age + max(0, now.Sub(p.at).Seconds())
}

// transfer is a transfer with what the screen needs beside it.
type transfer struct {
	control.Transfer
	order int       // in which it was first seen
	moved time.Time // when a byte moved last
	ended time.Time // by the agent's clock, zero while it goes on
}

// over reports whether nothing more happens to the transfer by itself.
func (t *transfer) over() bool {
	return t.State == "done" || t.State == "refused" || t.State == "failed"
}

// stalled returns for how long no byte has moved, 0 when they do.
func (t *transfer) stalled(now time.Time) time.Duration {
	d := now.Sub(t.moved)
	if t.State != "running" || d < 5*time.Second {
		return 0
	}
	return d
}

// question is an inbox item with the moment its values are from.
type question struct {
	control.InboxItem
	at    time.Time
	shown bool // its dialog was open once, or was put off
	rung  bool // the bell rang for it
}

// left is the number of seconds until it is refused by itself, -1 for never.
func (q *question) left(now time.Time) float64 {
	if q.Expires < 0 {
		return -1
	}
	return max(0, q.Expires-now.Sub(q.at).Seconds())
}

// apply takes one event of the agent. It reports whether the stream is still
// whole; after false the watch must start anew.
func (s *state) apply(e control.Event, at time.Time, asciiOnly bool) bool {
	scrubEvent(&e, asciiOnly)
	if e.Type == "end" || (e.Type != "state" && e.Seq != s.seq+1) {
		return false
	}
	s.seq = e.Seq
	switch {
	case e.Type == "state" && e.State != nil:
		s.reset(*e.State, at)
	case e.Type == "status" && e.Status != nil:
		s.status, s.statusAt = *e.Status, at
	case e.Type == "peer" && e.Peer != nil:
		s.putPeer(*e.Peer, at)
	case e.Type == "peer_gone":
		s.peers = slices.DeleteFunc(s.peers, func(p *peer) bool { return p.Key() == e.Key })
	case e.Type == "transfer" && e.Transfer != nil:
		s.putTransfer(*e.Transfer, at)
	case e.Type == "transfer_gone":
		s.transfers = slices.DeleteFunc(s.transfers, func(t *transfer) bool { return t.ID == e.Key })
	case e.Type == "inbox" && e.Inbox != nil:
		s.putQuestion(*e.Inbox, at)
	case e.Type == "inbox_gone":
		s.inbox = slices.DeleteFunc(s.inbox, func(q *question) bool { return q.ID == e.Key })
	case e.Type == "message" && e.Message != nil:
		s.putMessage(*e.Message)
	case e.Type == "message_gone":
		for i, m := range s.messages {
			if m.ID == e.Key {
				s.messages = append(s.messages[:i], s.messages[i+1:]...)
				break
			}
		}
	case e.Type == "unread" && e.Unread != nil:
		s.unread = *e.Unread
	case e.Type == "log" && e.Log != nil:
		s.putLine(*e.Log)
	case e.Type == "step" && e.Step != nil:
		s.putStep(*e.Step)
	}
	return true
}

// reset takes a snapshot. What only this program knows (which question was put
// off, when a byte moved) is kept.
func (s *state) reset(n control.State, at time.Time) {
	old := *s
	s.known, s.status, s.statusAt = true, n.Status, at
	s.peers, s.transfers, s.inbox = nil, nil, nil
	s.messages, s.unread = n.Messages, n.Unread
	s.log, s.logless = n.Log, n.Log == nil
	inOrder(s.messages)
	for _, p := range n.Peers {
		s.peers = append(s.peers, &peer{p, at})
	}
	sort.Slice(s.peers, func(i, j int) bool { return comparePeers(s.peers[i], s.peers[j]) < 0 })
	sort.SliceStable(n.Transfers, func(i, j int) bool {
		a, b := n.Transfers[i], n.Transfers[j]
		return cmp.Compare(b.Age, a.Age) < 0
	})
	for _, t := range n.Transfers {
		s.transfers = append(s.transfers, s.transferOf(t, old.transfer(t.ID), at))
	}
	sort.Slice(s.transfers, func(i, j int) bool { return compareTransfers(s.transfers[i], s.transfers[j]) < 0 })
	for _, i := range n.Inbox {
		q := &question{InboxItem: i, at: at}
		if was := old.question(i.ID); was != nil {
			q.shown, q.rung = was.shown, was.rung
		}
		s.inbox = append(s.inbox, q)
	}
}

func (s *state) putPeer(p control.Peer, at time.Time) {
	key := p.Key()
	s.peers = slices.DeleteFunc(s.peers, func(o *peer) bool {
		// A Wi-Fi Direct device whose identity became known changes its key.
		return o.Key() == key || o.ID == "" && p.ID != "" && samePlace(o.Peer, p)
	})
	n := &peer{p, at}
	i, _ := slices.BinarySearchFunc(s.peers, n, comparePeers)
	s.peers = slices.Insert(s.peers, i, n)
}

// samePlace reports whether both have the same Wi-Fi Direct device address.
func samePlace(a, b control.Peer) bool {
	for _, x := range a.Paths {
		for _, y := range b.Paths {
			if x.Kind == "direct" && y.Kind == "direct" && x.Address == y.Address {
				return true
			}
		}
	}
	return false
}

func (s *state) putTransfer(t control.Transfer, at time.Time) {
	old := s.transfer(t.ID)
	n := s.transferOf(t, old, at)
	// There may be ten thousand, and each byte that moves says so.
	if old != nil {
		if i, _ := slices.BinarySearchFunc(s.transfers, old, compareTransfers); i < len(s.transfers) && s.transfers[i] == old {
			s.transfers = slices.Delete(s.transfers, i, i+1)
		} else {
			s.transfers = slices.DeleteFunc(s.transfers, func(o *transfer) bool { return o == old })
		}
	}
	i, _ := slices.BinarySearchFunc(s.transfers, n, compareTransfers)
	s.transfers = slices.Insert(s.transfers, i, n)
}

// transferOf makes a row of t, which was old before, or nil.
func (s *state) transferOf(t control.Transfer, old *transfer, at time.Time) *transfer {
	n := &transfer{Transfer: t, moved: at}
	if old == nil {
		s.order++
		n.order = s.order
	} else {
		n.order = old.order
		if old.BytesDone == t.BytesDone && old.BytesMoved == t.BytesMoved && old.State == t.State {
			n.moved = old.moved
		}
	}
	if n.over() {
		n.ended, _ = time.Parse(time.RFC3339, t.Ended)
	}
	return n
}

func (s *state) putQuestion(i control.InboxItem, at time.Time) {
	for _, q := range s.inbox {
		if q.ID == i.ID {
			q.InboxItem, q.at = i, at
			return
		}
	}
	s.inbox = append(s.inbox, &question{InboxItem: i, at: at})
}

// maxSteps bounds the steps that are kept of one command.
const maxSteps = 32

func (s *state) putStep(n control.Step) {
	for i, o := range s.steps {
		if o.What == n.What && o.Name == n.Name {
			s.steps[i] = n
			return
		}
	}
	if len(s.steps) < maxSteps {
		s.steps = append(s.steps, n)
	}
}

func (s *state) peer(key string) *peer {
	for _, p := range s.peers {
		if p.Key() == key {
			return p
		}
	}
	return nil
}

func (s *state) transfer(id string) *transfer {
	for _, t := range s.transfers {
		if t.ID == id {
			return t
		}
	}
	return nil
}

func (s *state) question(id string) *question {
	for _, q := range s.inbox {
		if q.ID == id {
			return q
		}
	}
	return nil
}

// running counts the transfers that are not over.
func (s *state) running() int {
	n := 0
	for _, t := range s.transfers {
		if t.over() {
			break // they come last
		}
		n++
	}
	return n
}

// nameOf returns what to call a device, "" never.
func nameOf(p control.Peer) string {
	switch {
	case p.Name != "":
		return p.Name
	case p.Short != "":
		return p.Short
	default:
		for _, path := range p.Paths {
			return path.Address
		}
		return "unnamed device"
	}
}

// askerOf returns what to call the device that asks.
func askerOf(i control.InboxItem) string {
	switch {
	case i.PeerName != "":
		return i.PeerName
	case i.Peer != "":
		return shortID(i.Peer)
	case i.Address != "":
		return i.Address
	default:
		return "unnamed device"
	}
}

// shortID returns the first eight characters of a DeviceID, as people say it.
func shortID(id string) string {
	return ansi.Truncate(id, 9, "")
}

// summary is the question in one line.
func (q *question) summary() string {
	switch q.Kind {
	case "group":
		return askerOf(q.InboxItem) + " wants to connect over Wi-Fi Direct"
	case "pair":
		return askerOf(q.InboxItem) + " and this device are to pair"
	}
	if q.Transfer == nil {
		return askerOf(q.InboxItem) + " asks something"
	}
	return fmt.Sprintf("%s sends %s", askerOf(q.InboxItem), contents(q.Transfer))
}

// contents says what a transfer consists of: "3 files, 4.9 GB".
func contents(t *control.Transfer) string {
	s := count(t.Files, "file")
	if t.Dirs > 0 {
		s += " in " + count(t.Dirs, "folder")
	}
	return s + ", " + bytesText(t.BytesTotal)
}

func comparePeers(a, b *peer) int {
	return cmp.Or(
		cmp.Compare(peerRank(a.State), peerRank(b.State)),
		cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)),
		cmp.Compare(a.Key(), b.Key()))
}

func peerRank(state string) int {
	switch state {
	case "ready":
		return 0
	case "connecting":
		return 1
	case "visible":
		return 2
	}
	return 3
}

// compareTransfers puts what goes on first, in the order it came, and what is
// over behind it, the latest first.
func compareTransfers(a, b *transfer) int {
	switch {
	case a.over() != b.over():
		if b.over() {
			return -1
		}
		return 1
	case !a.over():
		return cmp.Compare(a.order, b.order)
	}
	return cmp.Or(b.ended.Compare(a.ended), cmp.Compare(b.order, a.order))
}
