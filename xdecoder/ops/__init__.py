"""Operations on maps that the network and its losses share."""
