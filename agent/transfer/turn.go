package transfer

import "time"

// A turn is what a pull brought lately; it decides who goes on when others wait.
type turn struct {
	at   time.Time // since then ..
	sent int64     // .. record.Sent was this
}

// slowPull looks at the pulls while another transfer waits for its turn. It returns one that brought less than slowBytes in the last
// slowTurn: a sender that trickles keeps nobody waiting, and a slow link costs nothing while nobody does. It also returns when to look
// again; with mu held.
func (e *Engine) slowPull(now time.Time) (found *transfer, again time.Time) {
	for _, t := range e.all {
		if t.cancel == nil || t.yielding || t.rec.State != Running && t.rec.State != Queued {
			continue
		}
		long := e.slowTurn
		if t.rec.State == Queued {
			long *= manifestTurns // of the manifest nothing is counted
		}
		if now.Sub(t.turn.at) >= long {
			if t.rec.Sent-t.turn.sent < slowBytes {
				if found == nil || t.turn.at.Before(found.turn.at) {
					found = t
				}
				continue
			}
			t.turn = turn{now, t.rec.Sent}
		}
		if next := t.turn.at.Add(long); again.IsZero() || next.Before(again) {
			again = next
		}
	}
	return found, again
}
