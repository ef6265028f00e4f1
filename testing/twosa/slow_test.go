package twosa

import (
	"errors"
	"testing"
	"time"

	"github.com/ikegod/ikegod/ike/event"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
	"github.com/ikegod/ikegod/pkg/iana"
)

// slowPair is a pair whose key exchange is so slow that the responder makes its public value as a job.
func slowPair() *World {
	slow := func(c *policy.Connection) { c.IKE = IKE("aes_gcm256-sha2_512-modp3072") }
	w := Pair(1, slow, slow)
	w.East.Hold = func(e machine.Effect) bool { j, ok := e.(machine.Job); return ok && j.Answer != nil }
	return w
}

// TestSlowAnswer: no shard stands still for a stranger's slow group. The request is in work until the public value is there; its repetitions are dropped.
func TestSlowAnswer(t *testing.T) {
	w := slowPair()
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	if len(w.East.Held) != 1 || len(w.East.Out) != 0 {
		t.Fatalf("%d jobs held, %d packets sent", len(w.East.Held), len(w.East.Out))
	}
	before := w.East.Drops
	w.West.Inject(w.West.Sent[0])
	dropped(t, w.East, before, event.DropDuplicate)
	w.East.Complete()
	if len(w.East.Out) != 1 {
		t.Fatalf("%d packets sent after the job", len(w.East.Out))
	}
	w.Settle()
	agreed(t, w)
}

// TestSlowAnswerStreamLost: the initiator's stream ends meanwhile; what the job brings then is nobody's.
func TestSlowAnswerStreamLost(t *testing.T) {
	w := slowPair()
	p := w.West.TCP()
	w.West.Initiate(p)
	w.West.Deliver()
	w.East.Step(machine.PathLost{Path: reversed(p), Err: errors.New("connection reset")})
	closedFor(t, w.East, event.ReasonPathFailed, 0)
	w.East.Complete()
	if len(w.East.Out) != 0 {
		t.Errorf("%d packets sent", len(w.East.Out))
	}
}

// TestSlowAnswerNeverComes: the half-open time runs while the job does.
func TestSlowAnswerNeverComes(t *testing.T) {
	w := slowPair()
	w.West.Initiate(w.West.UDP())
	w.West.Deliver()
	w.West.M = nil
	w.Run(time.Minute)
	closedFor(t, w.East, event.ReasonHalfOpenTimeout, 0)
}

// TestSlowAnswerBadValue: a public value that is refused (RFC 6989 2.1) is answered as malformed.
func TestSlowAnswerBadValue(t *testing.T) {
	w := slowPair()
	w.West.Initiate(w.West.UDP())
	w.East.FailJob = errors.New("the public value is one")
	w.West.Deliver()
	w.East.Complete()
	closedFor(t, w.East, event.ReasonSyntax, iana.INVALID_SYNTAX)
	said(t, w.East, "MODP3072", "the public value is one")
}
