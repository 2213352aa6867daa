package transfer

import (
	"errors"
	"slices"
)

// The receiver's rules say no. The peer hears which one, so that its person knows what to do.
var (
	ErrOff   error = &sentinel{"off", "nothing is received there"}                           // off
	ErrSize  error = &sentinel{"size", "larger than what is taken from this device at once"} // size
	ErrQuota error = &sentinel{"quota", "more than what is still taken from this device"}    // quota
	rulings        = []error{ErrOff, ErrSize, ErrQuota}
)

func init() {
	for _, err := range rulings {
		byCode[Code(err)] = err
	}
}

// ruled returns the sentinel of a no by the receiver's rules that err wraps, nil when it is none.
func ruled(err error) error {
	if i := slices.IndexFunc(rulings, func(r error) bool { return errors.Is(err, r) }); i >= 0 {
		return rulings[i]
	}
	return nil
}

// Forbid returns the decision to refuse because the rules say no: why is [ErrOff], [ErrSize] or [ErrQuota]. Unlike a refusal without
// a reason it is remembered, so that the person here sees it too.
func Forbid(why error) Decision { return Decision{Answer: AnswerRefuse, Why: why} }

// Deny ends a transfer that is to be received and has not ended, because the rules say no now: why is [ErrOff], [ErrSize] or
// [ErrQuota]. The bytes stop at once, parts are removed, and the sender is told. It returns [ErrNotFound], or [ErrState] when it has
// ended, its files are getting their final names, or it is sent.
func (e *Engine) Deny(id string, why error) error {
	t, err := e.find(id)
	if err != nil {
		return err
	}
	return e.change(t, func() error {
		switch {
		case t.rec.Direction != Receive || t.rec.State.Ended() || t.rec.Committing:
			return ErrState
		case t.rec.State == Waiting:
			e.set(t, Refused, why)
			t.notify(&stateMessage{State: Refused, Code: Code(why)})
		default:
			e.end(t, why, true)
		}
		return nil
	})
}
