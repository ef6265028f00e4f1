package engine

import (
	"testing"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/ike/policy"
)

// TestSecretsGoBack: a caller whose next step fails can put back the credentials that were in force.
func TestSecretsGoBack(t *testing.T) {
	inRig(t, policy.Setup{}, func(*script, machine.Input) []machine.Effect { return nil }, func(t *testing.T, r *rig) {
		first, second := auth.NewStore(nil), auth.NewStore([]auth.Secret{{Key: []byte("long enough")}})
		r.e.SetSecrets(first)
		before := r.e.SetSecrets(second)
		if before != first {
			t.Errorf("the store before is %p, expected %p", before, first)
		}
		r.e.SetSecrets(before)
		if now := r.e.secrets.Load(); now != first {
			t.Errorf("the store in force is %p, expected %p", now, first)
		}
	})
}
