package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nigh/agent/clean"
	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/agent/message"
	"nigh/agent/policy"
	"nigh/agent/sandbox"
	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// Bounds of the commands that are run on events: what others do makes the events.
const (
	maxHooksAtOnce = 2
	maxHooksQueued = 64 // events that wait; further ones are dropped, and that is logged
	hookLimit      = time.Minute
)

// hookInput is what a command finds on its standard input: one JSON object with the fields of the local API.
type hookInput struct {
	Event    string             `json:"event"` // one of [policy.HookEvents]
	Transfer *control.Transfer  `json:"transfer,omitempty"`
	Inbox    *control.InboxItem `json:"inbox,omitempty"`
	Message  *control.Message   `json:"message,omitempty"`
	Peer     *control.Peer      `json:"peer,omitempty"`
}

// hookRun is one command that is to be run.
type hookRun struct {
	event   string
	command []string
	input   []byte
}

// hooks runs the commands that the person and the admin want on events. Which they are is settled when the agent starts: its
// sandbox lets no further one be run.
type hooks struct {
	a        *Agent
	user     [][]string // by the order of policy.HookEvents
	admin    [][]string
	environ  []string
	queue    chan hookRun
	mu       sync.Mutex
	full     bool                       // that events are dropped was said; guarded by mu
	arrived  map[string]bool            // transfers whose files have their names, and that have not ended; guarded by mu
	offered  map[string]bool            // that wait for an answer; guarded by mu
	trusted  map[identity.DeviceID]bool // guarded by mu
	near     map[identity.DeviceID]bool // of trusted; guarded by mu
	received uint64                     // number of the last message that was told of; guarded by mu
}

// hooks returns the commands that count for each event, in the order of policy.HookEvents.
func (r *rules) hooks() [][][]string {
	all := make([][][]string, len(policy.HookEvents))
	for _, h := range []policy.Hooks{r.userHooks(), r.policy.Hooks} {
		for i, c := range h.Commands() {
			if len(c) > 0 {
				all[i] = append(all[i], c)
			}
		}
	}
	return all
}

func (r *rules) userHooks() policy.Hooks {
	if policy.Off(r.policy.UserHooks) {
		return policy.Hooks{}
	}
	return r.Hooks
}

// newHooks takes the commands of now. The error wraps [ErrConfig].
func newHooks(a *Agent) (*hooks, error) {
	r := a.now()
	h := &hooks{
		a: a, user: r.Hooks.Commands(), admin: r.policy.Hooks.Commands(), queue: make(chan hookRun, maxHooksQueued),
		arrived: map[string]bool{}, offered: map[string]bool{}, trusted: map[identity.DeviceID]bool{}, near: map[identity.DeviceID]bool{},
	}
	for _, c := range h.programs() {
		// Whoever may send files must not be able to send what is run.
		if strings.HasPrefix(filepath.Clean(c[0]), r.Inbox+"/") {
			return nil, fmt.Errorf("%w: hooks: %s lies in the inbox, where others put files; move it elsewhere", ErrConfig, clean.Text(c[0]))
		}
	}
	for _, t := range a.transfers.Transfers() {
		h.offered[t.ID] = t.State == transfer.Waiting
	}
	for _, rec := range a.trust.List() {
		h.trusted[rec.ID] = rec.Standing == trust.Trusted
	}
	for _, name := range []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY"} {
		if v := os.Getenv(name); v != "" && (len(v) < 200 || name == "PATH" && len(v) < 1000) {
			h.environ = append(h.environ, name+"="+v)
		}
	}
	h.environ = append(h.environ, "NIGH_SOCKET="+a.cfg.Socket)
	return h, nil
}

// programs are all commands there are.
func (h *hooks) programs() [][]string {
	return slices.DeleteFunc(slices.Concat(h.user, h.admin), func(c []string) bool { return len(c) == 0 })
}

// on puts the commands for an event into the queue, when there are any. It does not block.
func (h *hooks) on(event string, view func(in *hookInput)) {
	if h == nil {
		return
	}
	i := slices.Index(policy.HookEvents, event)
	all := [][]string{h.admin[i]}
	if !policy.Off(h.a.now().policy.UserHooks) {
		all = append(all, h.user[i])
	}
	var input []byte
	for _, c := range all {
		if len(c) == 0 {
			continue
		}
		if input == nil {
			in := hookInput{Event: event}
			view(&in)
			input, _ = json.Marshal(in) // no type in it can fail to marshal
			input = append(input, '\n')
		}
		dropped := false
		select {
		case h.queue <- hookRun{event, c, input}:
		default:
			dropped = true
		}
		h.mu.Lock()
		said := h.full
		h.full = dropped
		h.mu.Unlock()
		if dropped && !said {
			h.a.log.Warn("Hooks do not keep up, events are dropped", "hook", "on_"+event, "fix", "let the commands end sooner")
		}
	}
}

// run runs what is in the queue until ctx ends, and with it what runs then.
func (h *hooks) run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range maxHooksAtOnce {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case r := <-h.queue:
					h.one(ctx, r)
				}
			}
		})
	}
	workers.Wait()
	return nil
}

func (h *hooks) one(ctx context.Context, r hookRun) {
	err := sandbox.Run(ctx, r.command, h.environ, r.input, hookLimit)
	if err == nil || ctx.Err() != nil {
		return
	}
	fix := "run it by hand with what it is given on standard input, a JSON object: nigh(1), HOOKS"
	switch {
	case errors.Is(err, sandbox.ErrNotStarted):
		fix = "check that it is there and may be run: ls -l " + r.command[0]
	case errors.Is(err, sandbox.ErrTooLong):
		fix = "let it end within " + hookLimit.String()
	}
	h.a.log.Warn("Hook failed", "hook", "on_"+r.event, "program", clean.Text(r.command[0]), "err", clean.Text(err.Error()), "fix", clean.Text(fix))
}

// arrives notes that the files of a transfer have their names. It is told of when the transfer has ended.
func (h *hooks) arrives(id string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.arrived[id] = true
}

// transfer looks whether a change of a transfer is one of the events.
func (h *hooks) transfer(t transfer.Transfer) {
	if h == nil || t.Direction != transfer.Receive {
		return
	}
	waits := t.State == transfer.Waiting
	h.mu.Lock()
	offered := waits && !h.offered[t.ID]
	if waits {
		h.offered[t.ID] = true
	} else {
		delete(h.offered, t.ID)
	}
	received := t.State.Ended() && h.arrived[t.ID]
	if received {
		delete(h.arrived, t.ID)
	}
	h.mu.Unlock()
	if received {
		h.on("received", func(in *hookInput) {
			v := h.a.transferView(t)
			in.Transfer = &v
		})
	}
	if offered {
		h.on("offer", func(in *hookInput) { in.Inbox = h.a.inboxItem(t) })
	}
}

// message looks whether a change of a message is that it came.
func (h *hooks) message(m message.Message) {
	if h == nil || m.Direction != message.Receive {
		return
	}
	h.mu.Lock()
	isNew := m.Seq > h.received
	h.received = max(h.received, m.Seq)
	h.mu.Unlock()
	if isNew {
		h.on("message", func(in *hookInput) {
			v := h.a.messageView(m)
			in.Message = &v
		})
	}
}

// peer looks whether a change of a device is one of the events.
func (h *hooks) peer(id identity.DeviceID) {
	if h == nil || len(h.programs()) == 0 {
		return
	}
	v, known := h.a.table.one(id)
	trusted := h.a.trust.Standing(id) == trust.Trusted
	h.mu.Lock()
	paired := trusted && !h.trusted[id]
	near := trusted && known && v.State == "ready"
	away := !known || v.State == "away"
	came := near && !h.near[id]
	went := away && h.near[id]
	if trusted {
		h.trusted[id] = true
	} else {
		delete(h.trusted, id)
	}
	switch {
	case near:
		h.near[id] = true
	case away || !trusted:
		delete(h.near, id)
	}
	h.mu.Unlock()
	view := func(in *hookInput) { in.Peer = &v }
	if paired {
		h.on("paired", view)
	}
	if came || went && trusted {
		h.on("peer", view)
	}
}
