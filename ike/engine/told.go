package engine

import (
	"errors"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/pkg/iana"
)

// told is what the peer is told of an installation that the datapath has refused (RFC 7296 3.10.1). Without memory it is a condition that passes: the peer may ask
// again in a while, on the same IKE SA (2.25). An algorithm that cannot be had after all is a proposal that is not acceptable: another may be. Of all else, such as a policy of
// somebody else's in the same place, or a right that is missing, neither time nor another proposal is the cure, but an operator here: no further Child SA is what holds.
func told(err error) iana.Notify {
	switch {
	case errors.Is(err, kernel.ErrAlgorithm):
		return iana.NO_PROPOSAL_CHOSEN
	case errors.Is(err, kernel.ErrMemory):
		return iana.TEMPORARY_FAILURE
	}
	return iana.NO_ADDITIONAL_SAS
}
