// Package desktop shows, on the desktop of whoever runs the program, what waits for an answer and which messages came: it
// follows the event stream of an agent and calls org.freedesktop.Notifications on the session bus (Desktop Notifications
// Specification 1.3). Where there is no session bus it does nothing; the system service has none, so there the terminal UI does it.
//
// What a device says is put into the body only, escaped where the server takes markup, and cut. Of several programs that follow one
// agent on one bus, the one that owns a name there shows.
package desktop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"

	"nigh/agent/control"
)

// Bounds of what others can make appear on a desktop.
const (
	showBurst = 5
	showPause = 3 * time.Second // between two, after a burst
	maxBody   = 240             // characters
	maxOpen   = 64              // notifications that are taken back when their question is answered
	callTime  = 5 * time.Second
	watchWait = 2 * time.Second // before an agent that went away is asked again
)

const notifications = "org.freedesktop.Notifications"

// Watcher is the event stream of an agent; [control.Client] has it.
type Watcher interface {
	Watch(ctx context.Context) (<-chan control.Event, error)
}

// Bus returns the address of the session bus of this process, "" when there is none.
func Bus() string {
	if address := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" {
		if strings.HasPrefix(address, "unix:") {
			return address
		}
		return ""
	}
	path := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")
	if info, err := os.Stat(path); err == nil && info.Mode()&os.ModeSocket != 0 && filepath.IsAbs(path) {
		return "unix:path=" + dbus.EscapeBusAddressValue(path)
	}
	return ""
}

// Follow shows what the agent tells until ctx ends, and waits for its agent again and again. With the address "" it returns at once.
func Follow(ctx context.Context, agent Watcher, address string) {
	if address == "" {
		return
	}
	f := &follower{address: address, limit: rate.NewLimiter(rate.Every(showPause), showBurst), known: map[string]bool{}}
	defer f.hangUp()
	for ctx.Err() == nil {
		if events, err := agent.Watch(ctx); err == nil {
			for e := range events {
				f.take(ctx, &e)
			}
		}
		wait := time.NewTimer(watchWait)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// follower is one stream of events. It is for one goroutine.
type follower struct {
	address string
	limit   *rate.Limiter
	conn    *dbus.Conn // nil until there is something to show, and after it broke
	markup  bool       // the server reads markup in bodies

	short string            // of the agent's device
	quiet bool              // its user wants no notifications
	known map[string]bool   // questions that were there
	last  uint64            // number of the newest message that was there
	shown map[string]uint32 // notifications of questions
}

// take looks at one event.
func (f *follower) take(ctx context.Context, e *control.Event) {
	switch {
	case e.State != nil:
		// What waited before is on no desktop twice.
		f.status(&e.State.Status)
		f.known = map[string]bool{}
		for _, i := range e.State.Inbox {
			f.known[i.ID] = true
		}
		for _, m := range e.State.Messages {
			f.last = max(f.last, m.Seq)
		}
	case e.Status != nil:
		f.status(e.Status)
	case e.Inbox != nil && !f.known[e.Inbox.ID]:
		f.known[e.Inbox.ID] = true
		if summary, body := question(e.Inbox); summary != "" {
			f.show(ctx, e.Inbox.ID, summary, body)
		}
	case e.Type == "inbox_gone":
		delete(f.known, e.Key)
		f.takeBack(ctx, e.Key)
	case e.Message != nil && e.Message.Direction == "receive" && e.Message.Seq > f.last:
		f.last = e.Message.Seq
		f.show(ctx, "", "Message", e.Message.PeerName+": "+e.Message.Text)
	}
}

func (f *follower) status(s *control.Status) { f.short, f.quiet = s.Short, s.Agent.Quiet }

// question says what is asked; "" for what was begun here.
func question(i *control.InboxItem) (summary, body string) {
	who := i.PeerName
	if who == "" {
		who = "A device"
	}
	switch {
	case i.Kind == "transfer" && i.Transfer != nil:
		what := "1 file"
		if i.Transfer.Files != 1 {
			what = fmt.Sprintf("%d files", i.Transfer.Files)
		}
		return "Files are offered", who + " wants to send " + what + ": " + i.Transfer.Name
	case i.Kind == "pair" && !i.Own:
		return "Pairing", who + " wants to pair with this device."
	case i.Kind == "group":
		return "Wi-Fi Direct", who + " wants to connect over Wi-Fi Direct."
	}
	return "", ""
}

// show puts something on the desktop, if this program is the one that does. What cannot be shown is not: nothing depends on it.
func (f *follower) show(ctx context.Context, id, summary, body string) {
	if f.quiet || !f.limit.Allow() || !f.dial() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	// Who is in the queue for the name gets it when its owner ends.
	var reply uint32
	name := "nigh.Notifier.d" + strings.ReplaceAll(f.short, "-", "")
	err := f.conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.RequestName", 0, name, uint32(0)).Store(&reply)
	if err != nil || reply != uint32(dbus.RequestNameReplyPrimaryOwner) && reply != uint32(dbus.RequestNameReplyAlreadyOwner) {
		return
	}
	text := []rune(strings.Join(strings.Fields(body), " "))
	if len(text) > maxBody {
		text = append(text[:maxBody], []rune("...")...)
	}
	body = string(text)
	if f.markup {
		body = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(body)
	}
	var number uint32
	err = f.conn.Object(notifications, "/org/freedesktop/Notifications").CallWithContext(ctx, notifications+".Notify", 0,
		"nigh", uint32(0), "network-transmit-receive", summary, body, []string{}, map[string]dbus.Variant{}, int32(-1)).Store(&number)
	if err == nil && id != "" && len(f.shown) < maxOpen {
		f.shown[id] = number
	}
}

// takeBack removes the notification of a question that was answered.
func (f *follower) takeBack(ctx context.Context, id string) {
	number, ok := f.shown[id]
	if !ok || f.conn == nil {
		return
	}
	delete(f.shown, id)
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	f.conn.Object(notifications, "/org/freedesktop/Notifications").CallWithContext(ctx, notifications+".CloseNotification", 0, number)
}

// dial makes sure of a connection with the bus; false when there is none.
func (f *follower) dial() bool {
	if f.conn != nil && f.conn.Connected() {
		return true
	}
	f.hangUp()
	conn, err := dbus.Connect(f.address)
	if err != nil {
		return false
	}
	f.conn, f.shown = conn, map[string]uint32{}
	var can []string
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	// A server that does not say what it can do is supposed to read markup.
	err = conn.Object(notifications, "/org/freedesktop/Notifications").CallWithContext(ctx, notifications+".GetCapabilities", 0).Store(&can)
	f.markup = err != nil || slices.Contains(can, "body-markup")
	return true
}

func (f *follower) hangUp() {
	if f.conn != nil {
		_ = f.conn.Close() // nothing is left to lose
		f.conn = nil
	}
}
