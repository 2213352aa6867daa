package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"nigh/agent/control"
)

// waitOptions say how a command waits for transfers.
type waitOptions struct {
	timeout time.Duration // 0 = for ever
	cancel  bool          // an interrupt cancels the transfers
	patient bool          // also devices that are away are waited for
}

// agentWait is how long a waiting command looks for an agent that went away:
// transfers go on by themselves when it is back.
const agentWait = 20 * time.Second

// errTimeout is the cause of a context that --timeout ended.
var errTimeout = errors.New("the time is over")

// waiter follows transfers until all have ended.
type waiter struct {
	a         *app
	transfers []control.Transfer
	index     map[string]int  // of an ID in transfers
	over      map[string]bool // by ID: it has ended, and that was said
	progress  progress
}

// wait follows transfers to their end and returns nil when every one is done.
func (a *app) wait(ctx context.Context, transfers []control.Transfer, o waitOptions) error {
	w := &waiter{a: a, transfers: transfers, index: map[string]int{}, over: map[string]bool{}, progress: newProgress(a)}
	for i, t := range transfers {
		w.index[t.ID] = i
	}
	waiting := ctx
	if o.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeoutCause(ctx, o.timeout, errTimeout)
		defer cancel()
	}
	err := w.run(waiting)
	w.progress.clear()
	switch {
	case ctx.Err() != nil:
		if o.cancel && !hungUp(ctx) {
			a.abandon(ctx, w.transfers)
		}
		return ctx.Err()
	case errors.Is(context.Cause(waiting), errTimeout) && err != nil:
		return &control.Error{Code: control.CodeTimeout, Message: "not everything was over after " + span(o.timeout.Seconds()),
			Hint: "it goes on; see: nigh transfers"}
	case err != nil:
		return err
	}
	return outcome(w.transfers)
}

// hungUp reports whether ctx ended because the terminal went away, such as with a
// connection of ssh: that is not the person's will. signal.NotifyContext says which
// signal it was only in the text of the cause.
func hungUp(ctx context.Context) bool {
	return strings.HasPrefix(context.Cause(ctx).Error(), syscall.SIGHUP.String()+" signal")
}

// run reads the agent's events until every transfer has ended. When the agent goes
// away it looks for it again for a while.
func (w *waiter) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var events <-chan control.Event // nil while no agent answers
	stop := func() {}
	defer func() { stop() }()
	lost, told := time.Now(), false // since when no agent answers, monotonic
	for {
		if events == nil {
			watching, cancel := context.WithCancel(ctx)
			got, err := w.a.agent().Watch(watching)
			switch {
			case err == nil:
				events, stop, told = got, cancel, false
			case ctx.Err() != nil:
				cancel()
				return context.Cause(ctx)
			case !errors.Is(err, &control.Error{Code: control.CodeNoAgent}) || time.Since(lost) > agentWait:
				cancel()
				return err
			default:
				cancel()
				if !told {
					told = true
					w.progress.note("the agent went away; the transfers go on when it is back")
				}
			}
		}
		select {
		case e, ok := <-events:
			if !ok || e.Type == "end" {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				stop()
				events, lost = nil, time.Now()
				continue
			}
			over, err := w.take(e)
			if err != nil || over {
				return err
			}
		case <-tick.C:
			if err := w.a.pipeClosed(); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		w.progress.paint(w.transfers)
	}
}

// take learns from one event and reports whether every transfer has ended.
func (w *waiter) take(e control.Event) (over bool, err error) {
	switch {
	case e.Type == "state" && e.State != nil:
		known := map[string]bool{}
		for _, t := range e.State.Transfers {
			known[t.ID] = true
			if err := w.update(e.Seq, t); err != nil {
				return false, err
			}
		}
		for i, t := range w.transfers {
			if !known[t.ID] {
				w.forget(i)
			}
		}
	case e.Type == "transfer" && e.Transfer != nil:
		if err := w.update(e.Seq, *e.Transfer); err != nil {
			return false, err
		}
	case e.Type == "transfer_gone":
		if i, ours := w.index[e.Key]; ours {
			w.forget(i)
		}
	}
	return len(w.over) == len(w.transfers), nil
}

// update takes the new value of a transfer, if it is one of ours.
func (w *waiter) update(seq uint64, t control.Transfer) error {
	i, ours := w.index[t.ID]
	if !ours || w.over[t.ID] {
		return nil
	}
	w.transfers[i] = t
	if w.a.json {
		if err := w.a.line(control.Event{Seq: seq, Type: "transfer", Transfer: &t}); err != nil {
			return err
		}
	}
	if ended(t) {
		w.over[t.ID] = true
		w.progress.end(t)
	}
	return nil
}

// forget ends a transfer that the agent no longer knows.
func (w *waiter) forget(i int) {
	t := &w.transfers[i]
	if w.over[t.ID] {
		return
	}
	if !ended(*t) {
		t.State, t.Error = "failed", "it was removed"
	}
	w.over[t.ID] = true
	w.progress.end(*t)
}

// ended reports whether nothing will happen to t any more.
func ended(t control.Transfer) bool {
	switch t.State {
	case "done", "refused", "failed":
		return true
	default:
		return false
	}
}

// outcome returns nil when all transfers are done, the error of those that are not
// when they agree and nothing is done, else CodePartial.
func outcome(transfers []control.Transfer) error {
	var first *control.Error
	var done, refused, failed int
	same := true
	for _, t := range transfers {
		e := &control.Error{Code: control.CodeRefused, Message: transferLine(t), Hint: t.Hint}
		switch t.State {
		case "done":
			done++
			continue
		case "refused":
			refused++
		default:
			failed++
			switch e.Code = t.ErrorCode; {
			case e.Code == "":
				e.Code = control.CodeFailed
			case e.Code == "some_failed", t.FilesFailed > 0 && t.FilesFailed < t.Files:
				e.Code = control.CodePartial
			}
		}
		if first == nil {
			first = e
		}
		same = same && e.Exit() == first.Exit()
	}
	switch {
	case first == nil:
		return nil
	case len(transfers) == 1:
		return first
	}
	e := &control.Error{Code: control.CodePartial,
		Message: fmt.Sprintf("of %d transfers %d done, %d refused, %d failed", len(transfers), done, refused, failed),
		Hint:    "see: nigh transfers"}
	if done == 0 && same {
		e.Code = first.Code
	}
	return e
}
