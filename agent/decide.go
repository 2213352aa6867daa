package agent

import (
	"net/http"

	"nigh/agent/transfer"
	"nigh/agent/trust"
)

// isQuestion reports whether a stranger's request becomes a question to our user: an
// offer, when the policy does not take all.
func (a *Agent) isQuestion(r *http.Request) bool {
	return r.URL.Path == "/v1/offer" && a.cfg.Accept != AcceptAll
}

// decide answers an offer as far as the policy can.
func (a *Agent) decide(o transfer.Offer) transfer.Decision {
	r := a.record(o.Peer)
	if d, ok := a.decideAsked(o, r); ok {
		return d
	}
	switch {
	case r.Standing == trust.Blocked:
		return transfer.Refuse("")
	case a.now().autoAccept(r):
		return transfer.Decision{Answer: transfer.AnswerAccept}
	default:
		return transfer.Decision{Answer: transfer.AnswerAsk, Stranger: r.Standing != trust.Trusted}
	}
}
