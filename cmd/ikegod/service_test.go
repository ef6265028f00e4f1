package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/ikegod/ikegod/pkg/ctl"
)

// Nobody comes from such an address: the question is wrong, and not the configuration.
func TestExplainWantsTheAddressOfAHost(t *testing.T) {
	for _, peer := range []string{"west", "0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "10.0.0.0/8"} {
		_, err := service{}.Explain(t.Context(), "road", peer, "")
		e, ok := errors.AsType[*ctl.Error](err)
		if !ok || e.Code != ctl.CodeUsage || !strings.Contains(e.Message, peer) || !strings.Contains(e.Message, "is not the address of a host") {
			t.Errorf("%s: %v", peer, err)
		}
	}
}
