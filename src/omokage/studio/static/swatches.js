// Colours for words, as drawn hair and eyes have them.

const COMMON = {
  aqua: "#63c9cf", black: "#26242b", blue: "#4a6fc8", brown: "#7a5238", gray: "#9a9ca6", green: "#58a05c",
  orange: "#e58a3d", pink: "#ee9ab9", purple: "#8a66b8", red: "#c4423f",
};

export const SWATCHES = {
  hair: { ...COMMON, blonde: "#ecd28a", white: "#f2f1ee" },
  eyes: { ...COMMON, yellow: "#e2bd3a" },
};
